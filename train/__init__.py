"""From video to a trained world: the stages, the loop that they share, the pipeline that orders them."""
