"""What the workflow depends on: four services that misbehave, and the policy book.

Nothing in here knows of beamflow. Each service keeps its own record of every request, in its
`Ledger`, and does nothing twice for one idempotency key, as a payment service would.
"""
