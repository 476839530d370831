"""What the bundled pack is made of (scenes, models, training), and a random pack for tests."""
