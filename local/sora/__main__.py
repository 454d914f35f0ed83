from local.sora.process import main

main()
