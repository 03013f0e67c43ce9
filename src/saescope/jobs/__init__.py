"""A job and a sweep: identity, reuse, one measurement, what follows the last job."""
