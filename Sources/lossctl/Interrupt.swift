import Glibc
import LossdSocket
import LossdThreads
import Synchronization

/// Ctrl-C while a call runs: calls `action` instead of ending the program; a second one ends it.
final class Interrupt: Sendable {
  private let raised = Atomic<Bool>(false)
  private let reading: Int32

  /// The writing end of the pipe, for the signal handler, which may do no more than write.
  private static let writing = Atomic<Int32>(-1)

  init(_ action: @escaping @Sendable () -> Void) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      reading = -1
      return
    }
    reading = ends[0]
    Interrupt.writing.store(ends[1], ordering: .sequentiallyConsistent)
    signal(SIGINT) { _ in
      var byte: UInt8 = 1
      let number = errno
      _ = write(Interrupt.writing.load(ordering: .sequentiallyConsistent), &byte, 1)
      errno = number
      signal(SIGINT, SIG_DFL)
    }
    let end = reading
    startThread { [weak self] in
      var byte: UInt8 = 0
      if read(end, &byte, 1) == 1 && byte == 1 {
        self?.raised.store(true, ordering: .relaxed)
        action()
      }
      _ = close(end)
    }
  }

  var wasRaised: Bool { raised.load(ordering: .relaxed) }

  /// Ctrl-C ends the program again.
  func end() {
    signal(SIGINT, SIG_DFL)
    let descriptor = Interrupt.writing.exchange(-1, ordering: .sequentiallyConsistent)
    if descriptor >= 0 { _ = close(descriptor) }
  }
}
