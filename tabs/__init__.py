"""What a person sees: one file per tab, and what tabs share. Gradio in, sd_core calls out; no tensor maths."""
