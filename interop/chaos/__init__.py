"""The campaign against lost messages, and the measurements that go with it."""
