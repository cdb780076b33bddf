"""The local cloud: emulator, simulator, devices and the demo. Test equipment, never deployed."""
