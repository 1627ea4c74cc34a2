"""Tool pins: what each server's tools were when they were first seen, kept."""
