"""The project's claims, each held against something planted whose truth is known."""
