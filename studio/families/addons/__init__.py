"""What is put beside a model's own weights: LoRAs, embeddings, autoencoders, ControlNets, IP-Adapters."""
