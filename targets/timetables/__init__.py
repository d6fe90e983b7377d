"""Timetables: who has the array's pods and the host when, fixed for a whole hyperperiod."""
