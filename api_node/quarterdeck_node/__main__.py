"""`python -m quarterdeck_node`: the serve process, told everything by QUARTERDECK_ variables."""

from quarterdeck_node.serve import main

if __name__ == "__main__":
    main()
