# Generated from course.toml by `tito export`. To change this file, edit the lesson and export again.
