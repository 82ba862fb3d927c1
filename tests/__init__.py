"""Tests; a package, so that trial processes can import its planted pipelines."""
