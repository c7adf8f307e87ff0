"""What `spaces` does on ZeroGPU hardware, as far as an app can tell: a decorated generator function works in a forked
process, in a thread of it, and what goes in and out is pickled. Only Gradio's own errors come back as they were."""

import inspect
import multiprocessing
import os
import pickle
import threading
from pathlib import Path

fork = multiprocessing.get_context("fork")


def GPU(duration):
    def decorate(task):
        assert inspect.isgeneratorfunction(task)

        def borrowed(*args):
            import gradio as gr
            from gradio.context import LocalContext

            with open(os.environ["FAKE_ZERO_GPU_LOG"], "a") as log:
                request = LocalContext.request.get(None)
                log.write(f"{duration(*args)} seconds for {request and request.session_hash}\n")
            sent = pickle.dumps(args)
            assert b"torch" not in sent, "a tensor would share memory with another process"
            here, there = fork.Pipe()
            stop = fork.Event()
            process = fork.Process(target=serve, args=(task, sent, there, stop), daemon=True)
            process.start()
            try:
                while True:
                    kind, value = pickle.loads(here.recv_bytes())
                    if kind == "end":
                        return
                    if kind == "error":
                        raise value if isinstance(value, gr.Error) else gr.Error(type(value).__name__)
                    yield value
            finally:
                stop.set()
                process.join(30)

        return borrowed

    return decorate


def serve(task, sent, pipe, stop):
    def iterate():
        try:
            for value in task(*pickle.loads(sent)):
                if stop.is_set():
                    break
                packed = pickle.dumps(("item", value))
                assert b"torch" not in packed, "a tensor would be on a GPU that is gone"
                pipe.send_bytes(packed)
        except Exception as error:
            pipe.send_bytes(pickle.dumps(("error", error)))
        else:
            pipe.send_bytes(pickle.dumps(("end", None)))
        Path(os.environ["FAKE_ZERO_GPU_LOG"] + ".ended").write_text(str(os.getpid()))

    thread = threading.Thread(target=iterate)
    thread.start()
    thread.join()
