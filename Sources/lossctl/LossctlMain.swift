/// The program under its name lossctl: the client. Arguments are the process's.
public func lossctlMain() async { await Lossctl.main() }
