-- "user_id" refers to nothing: the table of users is the site's, and may not exist here.
CREATE TABLE "jwt_auth_jwttoken" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "token_id" varchar(100) NOT NULL UNIQUE, "created_at" datetime NOT NULL, "issued_at" datetime NOT NULL, "expires_at" datetime NOT NULL, "is_revoked" bool NOT NULL, "revoked_at" datetime NULL, "purpose" varchar(100) NOT NULL, "key_pair_id" bigint NOT NULL REFERENCES "jwt_auth_jwtkeypair" ("id") DEFERRABLE INITIALLY DEFERRED, "user_id" integer NOT NULL);
CREATE INDEX "jwt_auth_jwttoken_key_pair_id_47ec74fd" ON "jwt_auth_jwttoken" ("key_pair_id");
CREATE INDEX "jwt_auth_jwttoken_user_id_1138720d" ON "jwt_auth_jwttoken" ("user_id");
