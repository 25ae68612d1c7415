DROP TABLE "jwt_auth_jwtscope";
