from local.simulator.process import main

main()
