CREATE TABLE "jwt_auth_jwttoken_scopes" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "jwttoken_id" bigint NOT NULL REFERENCES "jwt_auth_jwttoken" ("id") DEFERRABLE INITIALLY DEFERRED, "jwtscope_id" bigint NOT NULL REFERENCES "jwt_auth_jwtscope" ("id") DEFERRABLE INITIALLY DEFERRED);
CREATE UNIQUE INDEX "jwt_auth_jwttoken_scopes_jwttoken_id_jwtscope_id_3833aea8_uniq" ON "jwt_auth_jwttoken_scopes" ("jwttoken_id", "jwtscope_id");
CREATE INDEX "jwt_auth_jwttoken_scopes_jwttoken_id_bd8c0799" ON "jwt_auth_jwttoken_scopes" ("jwttoken_id");
CREATE INDEX "jwt_auth_jwttoken_scopes_jwtscope_id_0341e062" ON "jwt_auth_jwttoken_scopes" ("jwtscope_id");
