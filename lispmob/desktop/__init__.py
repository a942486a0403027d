"""The indicator for a desktop's panel: shows state, peers, the last move and problems; can stop and start lispd."""
