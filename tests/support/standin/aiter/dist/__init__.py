"""As AITER's."""
