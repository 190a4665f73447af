import CLibFuzzer
import Glibc

// FuzzSupport: what the programs of Fuzz/Targets share. A program gives `fuzz` a function that
// reads any bytes; what the function finds wrong ends the program with a text, and libFuzzer keeps
// the bytes.

/// Runs libFuzzer with this program's arguments. Does not return before libFuzzer does.
public func fuzz(_ test: @escaping (inout Input) -> Void) -> Never {
  current = test
  var count = CommandLine.argc
  var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
  exit(
    LLVMFuzzerRunDriver(&count, &arguments) { data, size in
      var input = Input(data, size)
      current(&input)
      return 0
    })
}

/// The program's one function, which a C function pointer cannot carry. Set once, before libFuzzer
/// runs.
private nonisolated(unsafe) var current: (inout Input) -> Void = { _ in }

/// Ends the program where something that has to hold does not.
@inline(__always)
public func require(_ holds: Bool, _ text: @autoclosure () -> String) {
  if !holds { fatalError(text()) }
}
