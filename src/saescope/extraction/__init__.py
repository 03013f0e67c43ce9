"""Lightning modules that pass the probes through model and SAE, and the codes that come out."""
