"""The ground floor: what runs a bundle. Imports neither tvm nor any other room."""
