"""What both services share and no client needs: logs, signals, health, metrics, traces.

Imports what only the services depend on, so no other module of the SDK imports it.
"""
