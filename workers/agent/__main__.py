"""`python -m workers.agent --config FILE` runs one agent until it is killed."""

from workers.agent.program import main

if __name__ == "__main__":
    main()
