"""The live page: shows the pipeline in a browser and, in a demo, controls the simulated events."""
