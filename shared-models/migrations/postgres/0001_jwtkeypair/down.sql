DROP TABLE "jwt_auth_jwtkeypair";
