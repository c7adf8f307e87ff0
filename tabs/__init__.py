"""What a person sees: a folder for each tab, and what tabs share. Gradio in, sd_core calls out; no tensor maths."""
