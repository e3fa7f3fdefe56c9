"""The light code location: queue sensors and the drain jobs that they launch."""
