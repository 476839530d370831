"""Training of handrefiner-tiny; every stage resumes from its checkpoint in the work folder (.train)."""
