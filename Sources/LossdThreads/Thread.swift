// LossdThreads: threads that run one thing. Depends on nothing.
import Glibc

/// Runs something in a thread of its own, and waits for nobody.
public func startThread(_ body: @escaping @Sendable () -> Void) {
  final class Body {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }
  var thread = pthread_t()
  // Retained for the thread, which releases it.
  let argument = Unmanaged.passRetained(Body(body)).toOpaque()
  let code = pthread_create(
    &thread, nil,
    { argument in
      guard let argument else { return nil }
      Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
      return nil
    }, argument)
  precondition(code == 0, "cannot start a thread")
  pthread_detach(thread)
}
