/* What comes to the allocator before it should, for programs and libraries that have a `held`, which says whether all went
 * well. With RESOLVER defined, it comes from the resolver of an indirect function. */
static struct piece kept[WORKS];

/* Does all there is to do, and keeps a block of each size. */
static void work_and_keep(void) {
    held = works(0);
    for (unsigned i = 0; i < WORKS; i++) held = held && take(&kept[i], WORK_SIZES[i], i);
}

#ifdef RESOLVER
static int the_answer(void) { return 42; }

static int (*resolver(void))(void) {
    work_and_keep();
    return the_answer;
}

/* Called, not pointed to: the loader calls the resolver after it has relocated what the resolver calls. */
static int answer(void) __attribute__((ifunc("resolver")));
#else
static int answer(void) { return 42; }
#endif
