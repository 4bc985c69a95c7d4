"""The ground floor: what more than one service needs. It imports none of the services."""
