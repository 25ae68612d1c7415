"""A site unlike the example: users and key pairs have UUIDs, and some columns are not there."""
