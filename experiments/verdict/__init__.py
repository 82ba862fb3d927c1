"""Who won, by how much, and out of how much: pure functions of what was measured."""
