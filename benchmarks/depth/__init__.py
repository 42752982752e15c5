"""What a node costs by how much it holds: waiting, held back, scheduled, finished."""
