"""Key pairs, scopes and issued tokens of a Django site, maintained by the Rust worker."""
