"""A Gradio app that recognises actions, for a Space on Hugging Face or a machine of your own.

Put it beside the folder `model` and the file `actions.txt` of a run: python app.py
"""

from pathlib import Path

import gradio as gr

import maxi

MODEL = maxi.load_model("model")
NAMES = Path("actions.txt").read_text(encoding="utf-8")


def recognise(video: str, names: str, window: float) -> list[list[str]]:
    """Return a row for each window of a video: its seconds, its best name and that one's share."""
    listed = [name.strip() for name in names.splitlines() if name.strip()]
    try:
        windows = maxi.classify(video, MODEL, listed, n_frames=8, window=window)
    except maxi.MaxiError as error:
        raise gr.Error(str(error)) from None
    return [
        [f"{one.start:.1f} to {one.end:.1f} s", one.names[0], f"{one.scores[0]:.0%}"]
        for one in windows
    ]


demo = gr.Interface(
    recognise,
    [
        gr.Video(label="video"),
        gr.Textbox(NAMES, lines=10, label="names, one a line"),
        gr.Slider(0, 60, 10, label="seconds of a window"),
    ],
    gr.Dataframe(headers=["when", "action", "share"], label="what happens"),
    title="Which action does the video show?",
)

if __name__ == "__main__":
    demo.launch()
