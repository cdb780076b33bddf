"""The local cloud: emulator, Redis, ThingWorx simulator, devices, demo."""
