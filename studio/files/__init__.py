"""What lies on disk, read as untrusted files: headers of weights, weights, configs, add-ons."""
