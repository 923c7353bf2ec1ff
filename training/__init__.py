"""How Sketchbook, the model that ships with Emerge Studio, is made: corpus, pictures, training, evaluation."""
