"""Masking: what may not leave in a response, a recording or the journal, found by kind or by field and taken out."""
