"""batch -> model: a store and a few options become a trained network in a run folder.

options      what may be told, checked at the door
run          the run folder: run.json, metrics.jsonl, model.safetensors, and who may write them
optim        AdamW, and the learning rate as a pure function of the step
checkpoint   the whole state after a step <-> two files of tensors and one of integers, all or nothing
validate     a model on a held-out split -> loss and top-1
signals      SIGTERM and Ctrl-C -> a stop after the step under way
trainer      one step after another, and the state between two of them
loop         what is checked, opened and recorded around the steps
"""
