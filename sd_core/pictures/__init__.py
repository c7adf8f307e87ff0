from sd_core.pictures import tag_limits as tag_limits  # before any picture is opened
