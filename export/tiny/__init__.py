"""What the bundled pack is made of: scenes, models, training; and a random pack of the same classes for tests."""
