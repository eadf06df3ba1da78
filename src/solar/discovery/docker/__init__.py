"""Engines in containers: which are meant, where each answers, and how one follows them as they come and go."""
