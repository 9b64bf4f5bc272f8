"""From video files to a folder of frames: fixed rate and size, cut into shots, duplicates and black frames removed.

`prepare.prepare` writes such a folder, `store.FrameStore` reads it, `decode.decode_clip` reads a prompt.
"""
