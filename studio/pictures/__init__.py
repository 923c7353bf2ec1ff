"""Start pictures, masks and controls: untrusted files made into plain pictures."""
