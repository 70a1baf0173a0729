"""What happens on its own.

keeper    follows the journal, makes every projection, runs what is due
loop      the duties of each day
schedule  what `icekeel up` does and when
renewal   projections made anew
reviews   flagged requests that wait for a person
"""
