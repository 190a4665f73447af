// Threads that wait for one another's Mutex. The thread sanitizer has to find nothing; with an
// argument they change a variable without a lock as well, and it has to find that. Swift 5 mode.
import Glibc
import Synchronization

final class Numbers: Sendable {
  private let numbers: Mutex<[Int]> = Mutex([])

  func add(_ number: Int) {
    numbers.withLock { numbers in
      numbers.append(number)
      if numbers.count > 100 { numbers.removeAll() }
      // Long enough for the others to go to sleep.
      if number % 50 == 0 { usleep(300) }
    }
  }
}

let numbers = Numbers()
let isWrong = CommandLine.arguments.count > 1
nonisolated(unsafe) var unguarded = 0

var threads: [pthread_t] = []
for _ in 0..<4 {
  var thread = pthread_t()
  pthread_create(
    &thread, nil,
    { _ in
      for number in 0..<3000 {
        numbers.add(number)
        if isWrong { unguarded += 1 }
      }
      return nil
    }, nil)
  threads.append(thread)
}
for thread in threads { pthread_join(thread, nil) }
