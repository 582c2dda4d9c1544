"""The simulated beamline: realistic detector images for tests, demos and learning. Needs the ``images`` extra."""
