DROP TABLE "jwt_auth_jwttoken";
